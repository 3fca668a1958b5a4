-- What a next version may add while this one works: columns of tables that are read and written, and a table.
ALTER TABLE slotwire.heads ADD COLUMN planted text;
ALTER TABLE slotwire.events ADD COLUMN planted text;
ALTER TABLE slotwire.organizations ADD COLUMN planted text NOT NULL DEFAULT '';
CREATE TABLE slotwire.planted (org text PRIMARY KEY);
GRANT SELECT ON slotwire.planted TO {serve}, {relay}, {agents}, {control};
