"""The two providers, simulated: `planning` decides everything beforehand (pure), `playing` sends it over HTTP.

May import `kybstream`. What it expects of the cases it derives from its own scripts, never from `streams`.
"""

from kybstream.simulator.config import Faults, SimulationConfig
from kybstream.simulator.planned import ExpectedCase, Plan, PlannedDelivery, PlannedLink
from kybstream.simulator.planning import plan
from kybstream.simulator.playing import play
from kybstream.simulator.target import LinkRegistrar, Progress, ProgressCallback, SentDelivery, Signer, Target

__all__ = [
    "ExpectedCase",
    "Faults",
    "LinkRegistrar",
    "Plan",
    "PlannedDelivery",
    "PlannedLink",
    "Progress",
    "ProgressCallback",
    "SentDelivery",
    "Signer",
    "SimulationConfig",
    "Target",
    "plan",
    "play",
]
