-- Bodies and data near 2 kB stay in their rows. Moved out of line, each cost a second row and a second index
-- entry at every insert: an eighth of what a delivery cost the server. Larger ones move out as before.
-- Only what is written from now on is stored so; nothing is rewritten, and the lock does not stop readers or writers.
ALTER TABLE slotwire.deliveries SET (toast_tuple_target = 8160);
ALTER TABLE slotwire.events SET (toast_tuple_target = 8160);
