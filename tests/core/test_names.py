"""Names of files and folders."""

from foveal.core.names import slug


def test_slug_is_a_valid_file_name():
    assert slug("sk:groups=8,dilations=3") == "sk-groups=8,dilations=3"
    assert slug("folder:/my images/birds-resnet18") == "folder-my-images-birds-resnet18"
