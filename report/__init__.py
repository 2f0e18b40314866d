"""One HTML page about evaluated runs: `page.write_report`."""
