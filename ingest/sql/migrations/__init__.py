"""Migrations, in the order of their numbers. `pre_` runs before new code is rolled out, `post_` after it."""
