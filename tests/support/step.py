"""A script of a race, whose step takes a hundredth of a second."""

import time

from rosetta_record import take_turns

take_turns(lambda: time.sleep(0.01))
