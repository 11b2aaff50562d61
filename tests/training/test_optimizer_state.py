"""Parameter groups."""

import foveal
from foveal.training.optimizer_state import parameter_groups


def test_parameter_groups_scale_localisation_and_spare_vectors():
    model = foveal.create_model("small_cnn+stn+se", identity=True)
    groups = {(group["lr_scale"], group["weight_decay"]): group["params"] for group in parameter_groups(model, 0.1)}
    localisation = model.stem[0].stn.localisation
    assert set(groups) == {(1.0, 0.1), (1.0, 0.0), (localisation.lr_scale, 0.1), (localisation.lr_scale, 0.0)}
    assert any(localisation.features.weight is weight for weight in groups[localisation.lr_scale, 0.1])
    assert any(model.features[0].attention.strength.s is weight for weight in groups[1.0, 0.0])
    count = sum(len(weights) for weights in groups.values())
    assert count == len(list(model.parameters()))
