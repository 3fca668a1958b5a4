"""The agents of an author, whose packages are called like folders of Slotwire."""
