"""Pure functions of tables: dates, encoding, scaling, the table spec."""
