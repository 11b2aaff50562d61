"""Types of findings of an audit, each with its explanation and its remedy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FindingType:
    """Properties of a type of finding."""

    is_fault: bool
    figure_format: str  # format of its figure
    explanation: str
    remedy: str


FINDING_TYPES = {
    "never called": FindingType(
        True,
        "",
        "The module is registered but not called in a forward pass, so its weights have no effect.",
        "Call it in the forward pass of the module that owns it, or remove it.",
    ),
    "not in the graph": FindingType(
        True,
        "",
        "The module is called, but no gradient of the network's output reaches it: it has no effect and cannot learn.",
        "Look for an unused result, a detach() or a no_grad().",
    ),
    "gradient not tested": FindingType(
        False,
        "",
        "The gradient of the network's output does not show here whether the module has an effect and can learn.",
        "See the reason in the note.",
    ),
    "not finite": FindingType(
        True,
        "",
        "Some attention weights are infinite or NaN, and so are the features that they scale.",
        "Look for a division, a logarithm or half precision in their computation.",
    ),
    "hidden width 0": FindingType(
        True,
        "",
        "A layer has no weights, so the output of the next layer is the same for every image.",
        "Use a reduction below the number of channels.",
    ),
    "hidden width 1": FindingType(
        False,
        "",
        "All attention weights are functions of a single hidden value, so they cannot vary independently.",
        "Use a smaller reduction if there are few channels.",
    ),
    "collapsed map": FindingType(
        True,
        "one weight for {:.0f} positions",
        "The spatial map has a single position, so it cannot distinguish positions.",
        "Set the padding of each convolution to dilation * (kernel - 1) / 2.",
    ),
    "constant": FindingType(
        True,
        "deviation of at most {:.1e} between images",
        "The weights are the same for every image: a learned constant, not attention.",
        "Fold a channel gate into the adjacent layer with foveal.prune_constant, or remove the mechanism.",
    ),
    "uniform": FindingType(
        True,
        "deviation of at most {:.1e} within an image",
        "All weights within an image are equal, so the mechanism only scales its input as a whole.",
        "Check that its input differs between channels or positions; train longer, or remove the mechanism.",
    ),
    "saturated closed": FindingType(
        True,
        "{:.1%} of the weights",
        "Nearly all weights are at the lower end of their range, where they suppress their input and gradients vanish.",
        "Lower the learning rate, normalize the input of the mechanism, or remove it.",
    ),
    "saturated open": FindingType(
        True,
        "{:.1%} of the weights",
        "Nearly all weights are at the upper end of their range, where they have no effect and gradients vanish.",
        "Remove the mechanism: the outputs stay about the same.",
    ),
    "saturated at both ends": FindingType(
        False,
        "{:.1%} of the weights",
        "Nearly all weights are at the lower or the upper end of their range: they select, but gradients vanish.",
        "To train further, lower the learning rate or normalize the input of the mechanism.",
    ),
    "saturated on one key": FindingType(
        True,
        "{:.3f} of each query's weight",
        "For each query, nearly all weight is on a single key, so gradients vanish.",
        "Divide the logits by the square root of the head's width, or normalize queries and keys.",
    ),
    "at birth": FindingType(
        False,
        "",
        "The mechanism is still the identity of its initialization and has no effect yet.",
        "Train the network.",
    ),
    "branch never chosen": FindingType(
        True,
        "{:.1%} of the selection",
        "A branch is computed for every image, but its weight is close to 0.",
        "Remove the branch.",
    ),
    "branch always chosen": FindingType(
        True,
        "{:.1%} of the selection",
        "One branch is selected for every image and channel; the other branches have no effect.",
        "Replace the mechanism with that branch.",
    ),
    "stuck at the identity": FindingType(
        True,
        "shift of at most {:.1e} of half the image",
        "The transform is the identity for every image.",
        "Raise the learning rate of its localisation network, or remove the mechanism.",
    ),
    "flipped": FindingType(
        True,
        "{:.1%} of the images",
        "The transform mirrors the image: a scale changed its sign in training.",
        "Lower the learning rate of its localisation network, or use a family with exponential scales.",
    ),
    "collapsed": FindingType(
        True,
        "{:.1%} of the images",
        "The transform shows a region with almost no area, so its output is nearly constant.",
        "Lower the learning rate of its localisation network, or use a family with exponential scales.",
    ),
    "outside the image": FindingType(
        True,
        "{:.1%} of its output",
        "Most of the transform's output is padding.",
        "Pad with the border or the background value, and lower the learning rate of its localisation network.",
    ),
    "never moves": FindingType(
        True,
        "shift of at most {:.1e} of half the image",
        "All glimpses at an image have the same location.",
        "Check that the policy receives the gradient of the reward, and raise its standard deviation.",
    ),
    "in a corner": FindingType(
        True,
        "{:.1%} of the glimpses",
        "Nearly all glimpses are at a corner of the image, where the policy's gradient does not move them away.",
        "Lower the policy's learning rate, so that the network first learns to classify.",
    ),
    "unseen": FindingType(
        False,
        "",
        "Its weights cannot be recorded, so they were not audited.",
        "See the reason in the note.",
    ),
}
