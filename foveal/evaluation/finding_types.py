"""What can be found of an attention: the whole vocabulary, with what each finding means and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FindingType:
    """What a finding says beside its name."""

    is_fault: bool
    figure_format: str  # how its figure is told
    explanation: str
    remedy: str


FINDING_TYPES = {
    "never called": FindingType(
        True,
        "",
        "It is registered, but no forward pass reaches it, so the network has its weights and not its effect.",
        "Call it in the forward pass of the module that owns it, or take it away.",
    ),
    "not in the graph": FindingType(
        True,
        "",
        "It is called, but no gradient of the network's answer reaches it, so it neither acts nor learns.",
        "Look for a result that is dropped, a detach() or a no_grad().",
    ),
    "not finite": FindingType(
        True,
        "",
        "Some weights are infinite or not a number, and so is what they weigh.",
        "Look for a division, a logarithm or half precision before them.",
    ),
    "hidden width 0": FindingType(
        True,
        "",
        "A layer has no weights, so what comes after it is the same for every image.",
        "Choose a reduction below the number of channels.",
    ),
    "hidden width 1": FindingType(
        False,
        "",
        "All weights are functions of one and the same number, so they can only rise and fall together.",
        "Choose a smaller reduction where channels are few.",
    ),
    "collapsed map": FindingType(
        True,
        "{:.0f} positions stand for each one",
        "Where a map of positions should be there is a single number, which looks nowhere.",
        "Give each convolution the padding dilation * (kernel - 1) / 2.",
    ),
    "constant": FindingType(
        True,
        "{:.1e} at most between images",
        "It is the same for every image, so what is learned is a constant and not attention.",
        "foveal.prune_constant folds a channel gate into the layer beside it; or take it away.",
    ),
    "uniform": FindingType(
        True,
        "{:.1e} within an image",
        "Within an image all its weights are alike, so it prefers nothing and can only scale.",
        "See if its input differs between channels or positions at all, and train longer or take it away.",
    ),
    "saturated closed": FindingType(
        True,
        "{:.1%} of the weights",
        "Nearly all weights are at the lower end of their range, where they let least pass and gradients vanish.",
        "Lower the learning rate, normalise what it reads, or take it away.",
    ),
    "saturated open": FindingType(
        True,
        "{:.1%} of the weights",
        "Nearly all weights are at the upper end of their range, where it changes nothing and gradients vanish.",
        "Take it away: the network answers about the same.",
    ),
    "saturated at both ends": FindingType(
        False,
        "{:.1%} of the weights",
        "Nearly all weights are at one end of their range or the other: it selects, but hardly learns any more.",
        "Lower the learning rate or normalise what it reads, if it should still learn.",
    ),
    "saturated on one key": FindingType(
        True,
        "{:.3f} of each query's weight",
        "Nearly all weight goes to a single position each time, so that gradients vanish.",
        "Scale the logits by the root of the head's width, or normalise queries and keys.",
    ),
    "at birth": FindingType(
        False,
        "",
        "It is still the identity that it started as, so it changes nothing yet.",
        "Train it.",
    ),
    "branch never chosen": FindingType(
        True,
        "{:.1%} of the selection",
        "A branch is computed for every image and next to nothing of it comes through.",
        "Leave the branch out.",
    ),
    "branch always chosen": FindingType(
        True,
        "{:.1%} of the selection",
        "One branch is chosen for every image and channel, so the others are computed for nothing.",
        "Put that branch in the place of the whole.",
    ),
    "stuck at the identity": FindingType(
        True,
        "{:.1e} of half the image at most",
        "Its transforms show every image as it is.",
        "Raise the learning rate of its localisation, or take it away.",
    ),
    "flipped": FindingType(
        True,
        "{:.1%} of the images",
        "What it shows is mirrored: a scale crossed zero in training.",
        "Lower the learning rate of its localisation, or take a family whose scales are exponentials.",
    ),
    "collapsed": FindingType(
        True,
        "{:.1%} of the images",
        "It shows a region with next to no area, so that what comes after sees one colour.",
        "Lower the learning rate of its localisation, or take a family whose scales are exponentials.",
    ),
    "outside the image": FindingType(
        True,
        "{:.1%} of what it shows",
        "Most of what it shows is padding.",
        "Pad with the border or the background's value, and lower the learning rate of its localisation.",
    ),
    "never moves": FindingType(
        True,
        "{:.1e} of half the image at most",
        "All glimpses of an image look at the same place.",
        "See that the policy gets its reward's gradient, and raise its spread.",
    ),
    "in a corner": FindingType(
        True,
        "{:.1%} of the glimpses",
        "Nearly all glimpses look at a corner of the image, out of which the policy's gradient does not lead.",
        "Lower the policy's learning rate, so that the network learns to read first.",
    ),
    "unseen": FindingType(
        False,
        "",
        "Its weights cannot be seen, so nothing is said of them.",
        "See the reason.",
    ),
}
