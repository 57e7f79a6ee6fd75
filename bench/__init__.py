"""What is measured, never tested: ratios in one run, on one machine. `./dev bench` runs it."""
