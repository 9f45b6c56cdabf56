-- compatible: 0003
-- The incarnation of a member that was asked to drain; empty: nobody asked. It only adds a column
-- with a default, so a process of the version before goes on beside it.
ALTER TABLE members ADD COLUMN drain text NOT NULL DEFAULT '';
