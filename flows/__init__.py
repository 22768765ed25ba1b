"""The front of the house: settings, assembly, the Prefect flow, the report and the command line."""
