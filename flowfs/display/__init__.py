"""How a service, a run and a table of runs look in a notebook: HTML out of what is known. Pure."""
