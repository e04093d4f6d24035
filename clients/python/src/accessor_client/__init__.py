"""A client of the accessor: a blockchain's state at every block of every fork.

    with Client("unix:///run/accessor/accessor.sock") as client:
        value = client.at("head")["slot"]

Client blocks; AsyncClient has the same calls for asyncio. docs/PROTOCOL.md of the
project tells what they say to the server.
"""

from . import errors
from .aio import AsyncClient
from .aioviews import AsyncDraft, AsyncEvents, AsyncPin, AsyncView
from .client import Client
from .erasure import Shard, Spec
from .errors import *
from .http import signer
from .items import hash_item
from .model import (
    About, Block, BlockInfo, BlockName, Changes, Diff, Difference, DraftInfo, Event, Fill, Finalized, History,
    Holder, Imported, Key, Lock, Locks, LockTold, Obstacle, PinInfo, Reservation, Status, Tree, Version, WalkBack,
)
from .proof import Proof, Proved, item_key
from .streams import ImportResult
from .views import Draft, Events, Pin, View

__version__ = "0.1.0"

__all__ = [
    "About", "AsyncClient", "AsyncDraft", "AsyncEvents", "AsyncPin", "AsyncView", "Block", "BlockInfo", "BlockName",
    "Changes", "Client", "Diff", "Difference", "Draft", "DraftInfo", "Event", "Events", "Fill", "Finalized",
    "History", "Holder", "ImportResult", "Imported", "Key", "Lock", "LockTold", "Locks", "Obstacle", "Pin", "PinInfo", "Proof",
    "Proved", "Reservation", "Shard", "Spec", "Status", "Tree", "Version", "View", "WalkBack", "hash_item", "item_key", "signer",
]
__all__ += errors.__all__
