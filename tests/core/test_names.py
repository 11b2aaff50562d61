"""Names of files and folders."""

from foveal.core.names import slug, unknown_name_error


def test_slug_is_a_valid_file_name():
    assert slug("sk:groups=8,dilations=3") == "sk-groups=8,dilations=3"
    assert slug("folder:/my images/birds-resnet18") == "folder-my-images-birds-resnet18"
    assert slug(":transformers=2") == "transformers=2"


def test_unknown_name_error_shortens_a_long_name():
    assert len(str(unknown_name_error("network", "resnet" * 1000, ["vgg"]))) < 300
