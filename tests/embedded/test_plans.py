"""How the processes of the embedded stack are started."""

from pathlib import Path

from nextwatch.embedded.process.plans import inherited


def test_children_import_the_packages_of_their_parent():
    """Also from a checkout that is not installed; a folder deeper, modules hide those of Python."""
    [root, theirs] = inherited({"PYTHONPATH": "/theirs"})["PYTHONPATH"].split(":")

    assert (Path(root) / "nextwatch" / "__init__.py").is_file()
    assert theirs == "/theirs"
