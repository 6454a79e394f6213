"""Raw rows and pictures to the tables that all sources share."""
