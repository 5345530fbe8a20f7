"""Define the words of simulated titles and searches, without names of people."""

from collections.abc import Mapping, Sequence

CATEGORIES: Mapping[str, Sequence[str]] = {
    "baking": ("sourdough", "crumb", "frosting", "oven", "glaze", "dough", "rye", "pastry"),
    "gardening": ("seedling", "compost", "trellis", "pruning", "bulbs", "orchard", "soil", "fern"),
    "cycling": ("gravel", "derailleur", "climb", "saddle", "tailwind", "spokes", "descent", "loop"),
    "astronomy": ("nebula", "eclipse", "orbit", "telescope", "comet", "moonrise", "quasar", "dusk"),
    "chess": ("gambit", "endgame", "fork", "castling", "blunder", "rook", "opening", "zugzwang"),
    "woodwork": ("dovetail", "chisel", "oak", "lathe", "plane", "veneer", "bench", "joinery"),
    "sailing": ("spinnaker", "tide", "mooring", "jib", "harbour", "knots", "keel", "regatta"),
    "synths": (
        "oscillator",
        "patch",
        "sequencer",
        "filter",
        "drone",
        "arpeggio",
        "tape",
        "modular",
    ),
    "hiking": ("ridge", "switchback", "summit", "trail", "bivouac", "cairn", "valley", "scree"),
    "pottery": ("kiln", "stoneware", "raku", "slip", "wheel", "porcelain", "bowl", "ash"),
    "robots": ("servo", "gripper", "lidar", "firmware", "walker", "sensor", "gearbox", "swarm"),
    "aquariums": ("shrimp", "driftwood", "moss", "tank", "coral", "planted", "guppy", "substrate"),
}
FORMATS = ("in ten minutes", "for beginners", "step by step", "gone wrong", "up close", "at home")
PLACES: Sequence[tuple[str, str, float]] = (
    ("US", "en", 0.35),
    ("IN", "hi", 0.20),
    ("BR", "pt", 0.15),
    ("DE", "de", 0.12),
    ("FR", "fr", 0.10),
    ("JP", "ja", 0.08),
)
"""Country, language, and the share of viewers and channels that are there."""

DEVICES: Sequence[tuple[str, float]] = (
    ("phone", 0.6),
    ("tv", 0.2),
    ("desktop", 0.15),
    ("tablet", 0.05),
)
EVERYWHERE = "en"
"""The language that everybody understands."""
