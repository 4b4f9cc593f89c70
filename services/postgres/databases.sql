-- Runs once, when the volume is new: a database for each part that keeps its state in PostgreSQL.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
CREATE DATABASE ledger;
CREATE DATABASE predictions;
