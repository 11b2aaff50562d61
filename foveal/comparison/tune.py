"""Learning-rate search with the same budget for each contender, since a recipe favours the network it was tuned for.

Trials are complete runs with a seed that no comparison uses. The first trial has the recipe's learning rate; the others
are suggested by optuna's tree-structured Parzen estimator within a factor of `SPAN` of it. The rate is selected on the
validation part; the test part is not used. Finished trials are not repeated.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foveal.comparison.jobs import report
from foveal.core.functions import Functions
from foveal.training.config import RunConfig
from foveal.training.run_figures import validation_figure
from foveal.training.run_folder import check_same_settings
from foveal.training.train import train_epochs

SEED = 9_999
SPAN = 10.0


def tuned_rate(config: RunConfig, trials: Sequence[Path], functions: Functions) -> float:
    """Return the learning rate that is best on the validation part, with one trial for each folder in `trials`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.enqueue_trial({"lr": config.lr})
    for folder in trials:
        trial = study.ask()
        rate = trial.suggest_float("lr", config.lr / SPAN, config.lr * SPAN, log=True)
        try:
            own = replace(trial_config(config), lr=rate)
            check_same_settings(folder, own)
            lines = train_epochs(own, folder, functions, lambda line: report())
        except FloatingPointError:  # the learning rate is too high
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        study.tell(trial, max(map(validation_figure, lines)))
    if not any(trial.value is not None for trial in study.trials):
        raise FloatingPointError(f"none of {len(trials)} learning rates gave a finite loss; use a smaller lr")
    return float(study.best_params["lr"])


def trial_config(config: RunConfig) -> RunConfig:
    """Return the settings of a contender's trials, with the recipe's learning rate."""
    return replace(config, seed=SEED)
