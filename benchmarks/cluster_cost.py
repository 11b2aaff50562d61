"""What a comparison of ten contenders on ImageNet over five seeds costs on 1 to 512 GPUs whose machines die once a day.

    python -m benchmarks.cluster_cost > benchmarks/cluster_cost.md

On paper: nothing is trained. The plan, its order of jobs and its estimate of seconds are those of `foveal.compare`;
what a training step takes was measured (`MEASURED`). The rest is simulated event by event: a job takes one GPU; a
machine has eight, dies at a random time, and is back half an hour later; a job that died starts again at the first free
GPU, from the last epoch that its run stored.
"""

import heapq
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

from foveal.comparison.compare import trainings
from foveal.comparison.contenders import with_twin
from foveal.comparison.plan import START, Plan, estimate
from foveal.profiling.costs import Cost
from foveal.training.config import CompareConfig

# Parameters, ms of a training step of 256 images, ms of the inference of 64: one H200, torch 2.11, bfloat16 autocast,
# channels last, 224 x 224 pixels, without the optimizer's update.
MEASURED = {
    "resnet50": (25_557_032, 55.0, 4.8),
    "resnet50+se": (28_088_024, 79.5, 10.7),
    "resnet50+sk": (26_281_768, 98.3, 11.8),
    "resnet50+cbam": (28_089_624, 182.6, 19.7),
    "resnet50+eca": (25_557_118, 79.6, 6.5),
    "resnet50+ge": (25_557_032, 79.0, 10.0),
    "resnet50+gc": (28_105_016, 81.7, 18.4),
    "resnet50+coord": (27_474_392, 135.2, 17.9),
}
# Three more, not measured, are taken to cost as much as global context, which is in the middle.
STEPS = MEASURED | {f"resnet50+{name}": MEASURED["resnet50+gc"] for name in ("bam", "nl", "ge:extent=4")}
BACKBONE = "resnet50"
CONFIG = CompareConfig(
    data="imagenet", backbone=BACKBONE, epochs=90, batch_size=256, seeds=5, recipe="scratch", lr=1e-3
)
TRAIN, VALIDATION, TEST = 1_281_167 - 50_000, 50_000, 50_000
GIGABYTES = 138  # of the training images
SIZES = (1, 8, 64, 512)
MACHINE = 8  # GPUs
ALIVE, AWAY = 24 * 3600.0, 1800.0  # seconds: the mean until a machine dies, and until it is back
NOTICED = 5.3  # seconds until a job starts again, as seen with two nodes
HOUR, STATES = 3600.0, 3  # copies of the weights in a checkpoint of AdamW
ROUNDS = 20


@dataclass(frozen=True)
class Images:
    """A part of which only the number counts: reading is hidden behind the GPU's work."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: range) -> None:
        return None


@dataclass(frozen=True)
class ImageNet:
    train: Images = Images(TRAIN)
    validation: Images = Images(VALIDATION)
    test: Images = Images(TEST)


@dataclass(frozen=True)
class Outcome:
    """Seconds until the end, jobs that started again, and seconds of GPUs that trained, and that were lost."""

    seconds: float
    retries: int
    trained: float
    lost: float


def imagenet_plan() -> Plan:
    """Return the plan, as `foveal.comparison.plan.make_plan` makes it, with measured steps."""
    models = {name.partition("+")[2] or "none": name for name in STEPS}
    costs = {
        each: Cost(parameters, 0, 0.0, batch, step, 0, 0)
        for each, (parameters, step, batch) in zip(models, STEPS.values(), strict=True)
    }
    seconds = {name: estimate(cost, CONFIG, ImageNet()) for name, cost in costs.items()}
    models, twin = with_twin(models, BACKBONE)
    costs[twin], seconds[twin] = costs["none"], seconds["none"]
    return Plan(Path("imagenet"), CONFIG, models, costs, seconds, twin=twin)


class Simulation:
    """Jobs of some seconds each on GPUs, in order, until all are done."""

    def __init__(self, durations: list[float], gpus: int, epochs: int, seed: int):
        self.draw = random.Random(seed)  # noqa: S311
        self.epochs = [seconds / epochs for seconds in durations]
        self.size = [min(MACHINE, gpus - first) for first in range(0, gpus, MACHINE)]
        self.free = list(self.size)
        self.running: list[dict[int, tuple[float, float]]] = [{} for _ in self.size]  # job to its begin, seconds left
        self.waiting = [(job, 0.0, seconds) for job, seconds in enumerate(durations)]  # from when on, seconds left
        self.events = [(self.lifetime(), "dies", machine, 0) for machine in range(len(self.size))]
        heapq.heapify(self.events)
        self.now = self.trained = self.lost = 0.0
        self.retries = 0

    def lifetime(self) -> float:
        return self.draw.expovariate(1 / ALIVE)

    def run(self) -> Outcome:
        """Run until all jobs are done."""
        self.start()
        while self.waiting or any(self.running):
            self.now, kind, machine, job = heapq.heappop(self.events)
            if kind == "ends":
                self.end(machine, job)
            elif kind == "dies":
                self.die(machine)
            else:
                self.free[machine] = self.size[machine]
                heapq.heappush(self.events, (self.now + self.lifetime(), "dies", machine, 0))
            self.start()
        return Outcome(self.now, self.retries, self.trained, self.lost)

    def start(self) -> None:
        """Start waiting jobs on free GPUs."""
        for machine in range(len(self.size)):
            while self.free[machine] and self.waiting:
                job, since, left = heapq.heappop(self.waiting)
                self.free[machine] -= 1
                begin = max(self.now, since)
                self.running[machine][job] = begin, left
                heapq.heappush(self.events, (begin + START + left, "ends", machine, job))

    def end(self, machine: int, job: int) -> None:
        """End a job, unless it died before and the event is an old one."""
        begin, left = self.running[machine].get(job, (-1.0, 0.0))
        if begin + START + left == self.now:
            del self.running[machine][job]
            self.free[machine] += 1
            self.trained += left

    def die(self, machine: int) -> None:
        """End a machine with its jobs, which wait to go on after the last epoch that they stored."""
        for job, (begin, left) in self.running[machine].items():
            worked = max(0.0, self.now - begin - START)
            kept = min(left, worked // self.epochs[job] * self.epochs[job])
            self.trained, self.lost, self.retries = self.trained + kept, self.lost + worked - kept, self.retries + 1
            heapq.heappush(self.waiting, (job, self.now + NOTICED, left - kept))
        self.running[machine], self.free[machine] = {}, 0
        heapq.heappush(self.events, (self.now + AWAY, "is back", machine, 0))


def main() -> None:
    plan = imagenet_plan()
    jobs = trainings(plan, dict.fromkeys(plan.models, CONFIG.lr))
    durations = [plan.seconds[name] for name, _ in jobs]
    weights = [plan.costs[name].parameters * 4 / 1e9 for name, _ in jobs]
    print("# A comparison on ImageNet, on paper\n\n" + __doc__[__doc__.index("On paper") :])
    print(f"{len(plan.models)} arms with {CONFIG.seeds} seeds, {len(jobs)} runs of {CONFIG.epochs} epochs: ", end="")
    print(f"{sum(durations) / HOUR:,.0f} GPU hours, {max(durations) / HOUR:.1f} for the longest run.\n")
    print("| GPUs | hours without deaths | hours, median of 20 (least to most) | retries | GPU hours lost | idle |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for gpus in SIZES:
        quiet = simulate_without_deaths(durations, gpus)
        found = [Simulation(durations, gpus, CONFIG.epochs, seed).run() for seed in range(ROUNDS)]
        hours = [each.seconds / HOUR for each in found]
        idle = statistics.median(1 - (each.trained + each.lost) / (each.seconds * gpus) for each in found)
        print(
            f"| {gpus} | {quiet / HOUR:,.1f} | {statistics.median(hours):,.1f} ({min(hours):,.1f} to {max(hours):,.1f})"
            f" | {statistics.median(each.retries for each in found):.0f}"
            f" | {statistics.median(each.lost for each in found) / HOUR:.1f} | {100 * idle:.0f} % |"
        )
    written = sum(weights) * STATES * CONFIG.epochs
    stored, read = sum(weights) * (STATES + 1), len(jobs) * CONFIG.epochs * GIGABYTES / 1000
    print(f"\nThe run folders take {stored:,.0f} GB: the last checkpoint with the optimizer's state, and the best")
    print(
        f"weights. Written, a checkpoint for each epoch: {written:,.0f} GB. Read: {GIGABYTES} GB for each machine that"
    )
    print(f"keeps the images in memory, else {read:,.0f} TB.\n")
    print("A run takes one GPU, so that more GPUs than runs are idle: train one run on several with torchrun.")


def simulate_without_deaths(durations: list[float], gpus: int) -> float:
    """Return the seconds of the jobs on machines that live."""
    ends = [0.0] * gpus
    for seconds in durations:
        heapq.heapreplace(ends, ends[0] + START + seconds)
    return max(ends)


if __name__ == "__main__":
    main()
