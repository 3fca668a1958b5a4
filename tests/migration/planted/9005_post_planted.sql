-- What only the version before needed, for this test: nothing of ours reads them.
DROP TABLE slotwire.planted;
ALTER TABLE slotwire.organizations DROP COLUMN planted;
