"""Names for containers that nobody named: an adjective, an underscore and a thing found on board.

Dice are an argument: the caller brings a number, and gets the same name for it.
"""

from __future__ import annotations

ADJECTIVES = """
    able agile amber apt ardent azure blithe bold brave breezy bright brisk calm candid clever cosy crisp deft eager
    early even fair fast fearless fine firm fleet fond frank free fresh gentle glad golden good grand hale handy happy
    hardy hearty honest jaunty jolly keen kind light lively loyal lucid lucky mellow merry mild neat nimble noble
    patient placid plucky polite proud quick quiet ready round rugged sage salty serene sharp silent silver simple
    sleek sober solid sound spry stable stark steady stout sunny swift tidy trim true trusty vivid warm wary wild
    windy wise witty zesty
"""
THINGS = """
    anchor ballast barge beacon beam berth binnacle block bobstay boom bosun bow bowsprit bridge brig bulwark bunk buoy
    cable caique capstan carrack catboat chart cleat clipper compass coracle corvette coxswain crew cutter davit deck
    dhow dinghy dock dory fairlead fathom felucca fender ferry frigate furl gaff galley gangway genoa gig halyard
    harbour hatch hawser helm hold hull jetty jib junk kayak kedge keel ketch lanyard lantern lateen launch lighter
    log longboat lugger mast mizzen mooring oar outrigger packet paddle pier pilot pinnace port prow punt quay raft
    ratline reef rigging rope rowlock rudder sail schooner scull sextant shackle sheet shroud skiff sloop spar
    spinnaker stanchion starboard stay stern swell tackle tender thwart tide tiller topsail trawler trysail tug vane
    wake warp wharf wherry winch windlass yacht yard yawl
"""


def petname(number: int) -> str:
    """A name for any non-negative number; neighbours differ, some twelve thousand in all before they repeat."""
    adjectives, things = ADJECTIVES.split(), THINGS.split()
    quotient, remainder = divmod(number, len(adjectives))
    return f"{adjectives[remainder]}_{things[quotient % len(things)]}"
