"""No wrong figure without a word: threads, re-entry, quantized models and half precision, indices of a Recording."""

import copy
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import foveal
from foveal.inspection.hooks import FORCE_EAGER
from foveal.mechanisms.self_attention import RelativeAttention
from foveal.mechanisms.squeeze_excite import SqueezeExcite

ROUNDS = 60
THREADS = 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), SqueezeExcite(8, 2))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3), SqueezeExcite(8, 2))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.tokens = Tokens()

    def forward(self, x):
        y = self.second(self.first(x)).flatten(2).mT
        return self.tokens(self.attend(y, y, y)[0]).mean(1)


class Tokens(nn.Module):
    def forward(self, x):
        x = x[:, None]
        return ((x @ x.mT).softmax(-1) @ x)[:, 0]


EXTRA = {Tokens: ("softmax()", "affinity")}


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def in_threads(work):
    """Run `work(number)` in three threads that start together; errors are raised."""
    start = threading.Barrier(THREADS)

    def run(number):
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


@pytest.fixture
def model():
    torch.backends.mha.set_fastpath_enabled(False)
    yield Net().eval()
    torch.backends.mha.set_fastpath_enabled(True)


def shown(model, images, **options):
    with torch.no_grad(), foveal.watch(model, extra=EXTRA, **options) as seen:
        for batch in images:
            model(batch)
    return seen


def batches(number):
    """Batches of one thread: other images, other sizes of batch, another number of passes."""
    return [torch.rand(number + 1, 3, 8, 8) for _ in range(number + 1)]


def same(seen, wanted):
    assert seen.paths() == wanted.paths()
    for one, other in zip(seen, wanted, strict=True):
        assert torch.equal(one.values, other.values), one.path


def test_each_thread_sees_its_own_passes_alone(model):
    images = [batches(number) for number in range(THREADS)]
    wanted = [shown(model, each) for each in images]
    assert [len(seen) for seen in wanted] == [4] * THREADS

    def work(number):
        for _ in range(ROUNDS):
            same(shown(model, images[number]), wanted[number])

    in_threads(work)
    assert hooks(model) == 0


def test_each_thread_keeps_the_statistics_of_its_own_images(model):
    images = [batches(number) for number in range(THREADS)]

    def work(number):
        return [[each.count for each in shown(model, images[number], keep="statistics")] for _ in range(ROUNDS // 3)]

    assert in_threads(work) == [[[(number + 1) ** 2] * 4] * (ROUNDS // 3) for number in range(THREADS)]


def test_each_thread_replaces_the_weights_of_its_own_passes(model):
    images = torch.rand(2, 3, 8, 8)
    new = [{"first.1": 0.25 * number, "tokens": lambda weights, by=number: weights.roll(by, 0)} for number in range(3)]

    def answer(number):
        replaced = foveal.replace(model, new[number], extra=EXTRA)
        with torch.no_grad(), replaced, foveal.watch(model, extra=EXTRA) as seen:
            out = model(images)
        return out, seen

    wanted = [answer(number) for number in range(THREADS)]
    assert not torch.equal(wanted[0][0], wanted[1][0])

    def work(number):
        for _ in range(ROUNDS):
            out, seen = answer(number)
            assert torch.equal(out, wanted[number][0])
            assert seen["first.1"].values.eq(0.25 * number).all()
            same(seen, wanted[number][1])

    in_threads(work)
    assert hooks(model) == 0


def test_a_thread_without_a_context_is_neither_seen_nor_changed(model):
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        plain = model(images)

    def work(number):
        for _ in range(ROUNDS):
            if number == 0:
                with torch.no_grad():
                    assert torch.equal(model(images), plain)
            elif number == 1:
                assert [len(each.values) for each in shown(model, [images])] == [2] * 4
            else:
                with torch.no_grad(), foveal.replace(model, {"first.1": 0.0}):
                    assert not torch.equal(model(images), plain)

    in_threads(work)


def test_attention_that_is_fused_while_unwatched_stays_fused_for_other_threads():
    attention = RelativeAttention(8, 8, size=4).eval()
    with foveal.watch(attention):
        assert attention.tap.watched
        assert in_threads(lambda _: attention.tap.watched) == [False] * THREADS
    assert not attention.tap.watched


def test_places_that_another_thread_called_say_so(model):
    with foveal.watch(model, extra=EXTRA) as seen:
        in_threads(lambda _: model(torch.rand(1, 3, 8, 8)))
    assert len(seen) == 0
    assert set(seen.unseen.values()) == {
        "never called in the thread of this watch; another thread called the model, enter the watch there"
    }


def test_compiled_models_stay_eager_until_the_last_context_ends():
    from torch._dynamo import eval_frame

    model, plain = Net(), eval_frame._stance.stance
    first, second = foveal.watch(model), foveal.replace(model, {"first.1": 1.0})
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert eval_frame._stance.stance == "force_eager"
    second.__exit__(None, None, None)
    assert eval_frame._stance.stance == plain == "default"
    assert FORCE_EAGER.active == 0


def test_a_data_parallel_model_over_several_devices_is_refused():
    model = nn.DataParallel(Net())
    model.device_ids = [0, 1]
    for context in (foveal.watch(model), foveal.replace(model, {"first.1": 1.0})):
        with pytest.raises(ValueError, match=r"DataParallel over 2 devices .*; pass model.module"):  # noqa: SIM117
            with context:
                pass
    assert hooks(model) == 0


def refused(context):
    with pytest.raises(RuntimeError, match="active already"):
        context.__enter__()


@pytest.mark.parametrize("make", [foveal.watch, lambda model: foveal.replace(model, {"first.1": 1.0})])
def test_an_active_context_is_not_entered_again(make):
    model = Net().eval()
    context = make(model)
    for _ in range(2):  # entering again after the exit works
        with context:
            standing = hooks(model)
            with pytest.raises(RuntimeError, match=r"^this (watch|replace) is active already; [^\n]*$"):
                context.__enter__()
            in_threads(lambda _: refused(context))
            assert hooks(model) == standing
        assert hooks(model) == 0


def test_an_object_entered_again_records_anew():
    model = Net().eval()
    context = foveal.watch(model)
    with context as first:
        model(torch.rand(2, 3, 8, 8))
    with context as second:
        model(torch.rand(3, 3, 8, 8))
    assert (len(first["first.1"].values), len(second["first.1"].values)) == (2, 3)


def test_no_hook_stays_where_entering_fails(monkeypatch):
    model = Net()
    context = foveal.watch(model)
    monkeypatch.setattr("foveal.inspection.hooks.Hooks._recompute", property(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        context.__enter__()
    assert hooks(model) == 0
    monkeypatch.undo()
    with context:
        pass
    assert hooks(model) == 0


class Gate(nn.Module):
    """A gate whose weights are quantized with its network."""

    def __init__(self):
        super().__init__()
        self.fc, self.sigmoid = nn.Linear(4, 4), nn.Sigmoid()
        self.product = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x):
        return self.product.mul(x, self.sigmoid(self.fc(x)))


def statically_quantized():
    from torch.ao import quantization

    model = nn.Sequential(quantization.QuantStub(), Gate(), quantization.DeQuantStub()).eval()
    model.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare(model, inplace=True)
        model(torch.rand(64, 4) * 4 - 2)
        quantization.convert(model, inplace=True)
    return model


QUANTIZED = {Gate: ("sigmoid", "gate")}


def test_weights_of_a_statically_quantized_model_are_plain():
    model, x = statically_quantized(), torch.rand(5, 4) * 4 - 2
    raw = []
    handle = model[1].sigmoid.register_forward_hook(lambda _, __, out: raw.append(out))
    with foveal.watch(model, extra=QUANTIZED) as seen:
        plain = model(x)
    handle.remove()
    assert raw[0].is_quantized
    assert torch.equal(seen["1"].values, raw[0].dequantize())
    with foveal.watch(model, "statistics", extra=QUANTIZED) as statistics:
        assert torch.equal(model(x), plain)
    torch.testing.assert_close(statistics["1"].across_images.mean.float(), seen["1"].values.mean(0))
    with foveal.watch(model, dtype=torch.float16, extra=QUANTIZED) as halves:
        model(x)
    assert halves["1"].values.dtype == torch.float16


def test_weights_of_a_statically_quantized_model_are_replaced():
    model, x = statically_quantized(), torch.rand(5, 4) * 4 - 2
    with foveal.watch(model, extra=QUANTIZED) as seen:
        plain = model(x)
    with foveal.replace(model, {"1": seen["1"].values}, extra=QUANTIZED):
        assert torch.equal(model(x), plain)
    with foveal.replace(model, {"1": 0.5}, extra=QUANTIZED), foveal.watch(model, extra=QUANTIZED) as new:
        torch.testing.assert_close(model(x), x / 2, atol=0.05, rtol=0)
    assert new["1"].values.eq(0.5).all()
    with (
        foveal.replace(model, {"1": 3.0}, extra=QUANTIZED),
        pytest.raises(
            ValueError, match=r"'1': new weights from 3 to 3; .* lie in \[0, 0.996\d*\], in steps of [^\n]*$"
        ),
    ):
        model(x)


def test_quantized_masks_are_drawn():
    from torch.ao import quantization

    model = nn.Sequential(quantization.QuantStub(), Gated()).eval()
    model.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    images = torch.rand(2, 8, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare(model, inplace=True)
        model(images)
        quantization.convert(model, inplace=True)
    with foveal.watch(model, extra={Gated: ("sigmoid", "mask")}) as seen:
        model(images)
    assert seen["1"].values.shape == (2, 6, 6)
    assert not seen["1"].values.is_quantized
    foveal.draw(seen, images[:, :3])


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.sigmoid = nn.Conv2d(8, 1, 3, padding=1), nn.Sigmoid()

    def forward(self, x):
        return self.sigmoid(self.conv(x))


@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
def test_a_dynamically_quantized_model_is_watched_and_replaced(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear}, dtype=dtype)
    images = torch.rand(2, 3, 8, 8)
    with foveal.watch(model) as seen:
        plain = model(images)
    assert [record.values.dtype for record in seen] == [torch.float32] * 4
    assert seen.found["tokens"] == "in a trial pass"
    with foveal.replace(model, {"first.1": seen["first.1"].values}):
        torch.testing.assert_close(model(images), plain)
    with foveal.watch(model, "statistics") as statistics:
        model(images)
    assert [each.count for each in statistics] == [2] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_drawn_replaced_and_summarized(dtype):
    model = foveal.create_model("small_cnn+cbam", num_classes=2).eval().to(dtype)
    images = torch.rand(2, 3, 16, 16).to(dtype)
    with torch.no_grad(), foveal.watch(model) as seen:
        plain = model(images)
    assert {record.values.dtype for record in seen} == {dtype}
    foveal.draw(seen, images)
    with torch.no_grad(), foveal.replace(model, {record.path: record.values for record in seen}):
        assert torch.equal(model(images), plain)
    with torch.no_grad(), foveal.watch(model, "statistics") as statistics:
        model(images)
    assert all(each.across_images.mean.dtype == torch.float64 for each in statistics)
    foveal.audit(model, [(images, torch.tensor([0, 1]))])


def test_a_record_of_quantized_values_is_plain():
    values = torch.quantize_per_tensor(torch.tensor([[0.0, 0.5, 1.0]]), 1 / 128, 0, torch.quint8)
    facts = {
        "mechanism": "mine",
        "kind": "gate",
        "domain": "channel",
        "axes": "B C",
        "value_range": (0, 1),
        "path": "a",
    }
    record = foveal.Record(**facts, values=values)
    assert torch.equal(record.values, torch.tensor([[0.0, 0.5, 1.0]]))
    assert torch.equal(copy.deepcopy(record).values, record.values)


class Pair(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.both, self.kind = nn.Identity(), kind

    def forward(self, x):
        made = {"tuple": (x, x), "complex": x + 0j, "sparse": x.to_sparse()}[self.kind]
        self.both(made)
        return x


@pytest.mark.parametrize(("kind", "word"), [("tuple", "a tuple"), ("complex", "complex64"), ("sparse", "sparse_coo")])
def test_weights_of_another_kind_are_one_line(kind, word):
    model = Pair(kind)
    with foveal.watch(model, extra={Pair: ("both", "gate")}) as seen:
        model(torch.rand(2, 3))
    assert list(seen.unseen) == [""]
    assert word in seen.unseen[""]


class TestRecording:
    @pytest.fixture
    def seen(self, model):
        return shown(model, [torch.rand(2, 3, 8, 8)])

    def test_an_integer_is_a_place_in_the_models_order(self, seen):
        assert [seen[index].path for index in range(4)] == seen.paths() == ["first.1", "second.1", "attend", "tokens"]
        assert seen[-1].path == "tokens"
        assert seen[torch.tensor(1)].path == "second.1"

    @pytest.mark.parametrize("index", [4, -5, 10**9])
    def test_an_index_outside_is_one_line(self, seen, index):
        with pytest.raises(IndexError, match=rf"seen\[{index}\]: there are 4 Records, of first.1, [^\n]*$"):
            seen[index]

    @pytest.mark.parametrize("index", [True, 1.0, None, slice(2), ("first.1",)])
    def test_an_index_of_another_kind_is_one_line(self, seen, index):
        with pytest.raises(TypeError, match=r"^seen\[.*\]: a path or an integer is needed; there are first.1[^\n]*$"):
            seen[index]

    def test_it_is_read_as_a_dict(self, seen):
        assert seen.keys() == seen.paths()
        assert [record.path for record in seen.values()] == seen.keys()
        assert [(path, record.path) for path, record in seen.items()] == [(path, path) for path in seen.paths()]
        assert {path: record.path for path, record in dict(seen).items()} == {path: path for path in seen.paths()}

    def test_a_path_is_in_it_where_it_gives_a_record(self, seen):
        for path in ("first.1", "first", "second", "tokens"):
            assert path in seen
            assert seen[path] is not None
        for path in ("frist.1", "", "third", 0, None, "first.1.fc1"):
            assert path not in seen

    def test_a_place_called_twice_is_in_it_by_its_calls(self):
        se = SqueezeExcite(4, 2)
        model = nn.Sequential(se, nn.ReLU(), se)
        with foveal.watch(model) as seen:
            model(torch.rand(2, 4, 3, 3))
        assert seen.keys() == ["0#1", "0#2"]
        assert "0#2" in seen
        assert "0" not in seen
        assert seen[1].call == 1

    def test_it_is_empty_before_the_first_pass(self, model):
        with foveal.watch(model) as seen:
            assert (seen.keys(), seen.values(), seen.items()) == ([], [], [])
            assert "first.1" not in seen
            with pytest.raises(IndexError, match="there are 0 Records, of no place"):
                seen[0]


@pytest.mark.parametrize("new", ["first.1", ["first.1", "second.1"], ("first.1", 1.0), {"first.1"}, None, 1.0])
def test_new_weights_without_a_dict_show_the_right_call(new):
    with pytest.raises(TypeError, match=r"^new=.*foveal.replace\(model, \{'(first.1|layer1.0.se)': 1.0\}\)$"):
        foveal.replace(Net(), new)
    with pytest.raises(TypeError, match=r"^new=.*a dict from paths to new weights"):
        foveal.replace(Net(), new, 1.0)
