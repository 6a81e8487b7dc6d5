"""Bugs to be planted into a copy of the product, to show that the simulator finds them.

Each `*.patch` is one bug: a head that names the item of the reliability checklist, what breaks and which
checker must fire, then a unified diff against the product. `python -m tests.simulation.planted` plants
them one by one and prints the score.
"""
