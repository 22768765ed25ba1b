-- Beside the database of the memory bank, which the image makes, one for Prefect.
CREATE DATABASE prefect;
