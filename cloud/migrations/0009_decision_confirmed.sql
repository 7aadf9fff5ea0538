-- Which of the commanded stations have said that they carried a decision out. A gateway tells the decision again with each.
ALTER TABLE decision ADD COLUMN confirmed jsonb NOT NULL DEFAULT '[]';
