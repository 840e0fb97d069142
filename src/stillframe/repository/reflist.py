"""Long lists of references as shallow trees: 1,024 in a node, as many levels as the number asks for."""

from collections.abc import Iterator, Sequence

from stillframe.errors import StoredDataCorrupt
from stillframe.repository.format import LIST_FANOUT, ContentKind
from stillframe.repository.nodes import ListNode, decode, encode
from stillframe.repository.trie import NodeSink, NodeSource


def save_refs(nodes: NodeSink, kind: ContentKind, refs: Sequence[bytes | None]) -> bytes | None:
    """One reference that stands for all of these: the only one itself, or the root of their list."""
    while len(refs) > 1:
        refs = [_group(nodes, kind, refs[at : at + LIST_FANOUT]) for at in range(0, len(refs), LIST_FANOUT)]
    return refs[0] if refs else None


def _group(nodes: NodeSink, kind: ContentKind, refs: Sequence[bytes | None]) -> bytes | None:
    """A group of one stands for itself on every level, so that a list's shape follows from its length."""
    return refs[0] if len(refs) == 1 else nodes.save(kind, encode(ListNode(list(refs))))


def load_refs(
    nodes: NodeSource, kind: ContentKind, root: bytes | None, *, count: int, first: int = 0
) -> Iterator[bytes | None]:
    """The references of a list of `count`, from number `first` on; nodes are read as they are reached.

    Raises StoredDataCorrupt when the list is of another length, and what reading nodes raises.
    """
    if count <= 1:
        if first < count:
            yield root
        return
    span = 1
    while span * LIST_FANOUT < count:
        span *= LIST_FANOUT
    if root is None:
        raise StoredDataCorrupt("A list of references has no root.")
    node: ListNode = decode(kind, nodes.load(kind, root))
    if len(node.refs) != -(-count // span):
        raise StoredDataCorrupt("A list of references has another length than its file.")
    for number in range(first // span, len(node.refs)):
        below = min(span, count - number * span)
        yield from load_refs(nodes, kind, node.refs[number], count=below, first=max(0, first - number * span))
