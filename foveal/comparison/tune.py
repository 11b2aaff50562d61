"""A search for the learning rate, the same for each contender: a recipe favours the network that it was tuned for.

Trials are whole runs with a seed that no comparison uses; the first has the recipe's own rate, the others what optuna's
tree-structured Parzen estimator asks for within a factor of `SPAN` of it. The validation part chooses, the test part is
not read. Finished trials are not run again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foveal.comparison.jobs import report
from foveal.training.config import RunConfig
from foveal.training.train import train_epochs

SEED = 9_999
SPAN = 10.0


def tuned_rate(config: RunConfig, trials: Sequence[Path]) -> float:
    """The rate with the best accuracy on the validation part, of as many trials as there are folders for their runs."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.enqueue_trial({"lr": config.lr})
    for folder in trials:
        trial = study.ask()
        rate = trial.suggest_float("lr", config.lr / SPAN, config.lr * SPAN, log=True)
        try:
            _, _, lines = train_epochs(replace(config, lr=rate, seed=SEED), folder, on_epoch=lambda line: report())
        except FloatingPointError:  # a rate too high
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        study.tell(trial, max(line["validation_accuracy"] for line in lines))
    if not any(trial.value is not None for trial in study.trials):
        raise FloatingPointError(f"no learning rate of {len(trials)} gave a finite loss")
    return float(study.best_params["lr"])
