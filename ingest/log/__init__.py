"""What a delivery becomes: a typed fact, the booking it changes, the events it makes.

normalize   pure: bytes to a fact in Calendly's words, or a reason why not
booking     pure: the state of one invitee
join        pure: a fact and the rows it touches give new rows and events
outcome     what became of a delivery, as an enum
batch       pure: many facts at once, as the arguments of one append
store       commits deliveries in groups
quarantine  what could not be understood, and is tried again
waiting     what waits for its other half
"""
