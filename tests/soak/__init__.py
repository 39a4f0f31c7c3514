"""The soak: random operations for hours, against a small model of what must exist.

model     what must exist: networks, containers, volumes, images
player    makes one random move at a time, through the API and behind its back, and moves the model along
checks    compares the machine with the model
growth    memory, descriptors and durations: do they stay what they were?
run       the loop, the report, ``python -m soak.run --minutes 120 --seed 1``
"""
