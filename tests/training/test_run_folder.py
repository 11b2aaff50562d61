"""Files of a run folder: times of its epochs."""

from foveal.training.run_folder import read_processor_seconds, write_times


def test_processor_seconds_are_unknown_where_an_epoch_lacks_them(tmp_path):
    write_times(tmp_path, [1.0, 1.0], [{"processor_seconds": 2.0}, {"processor_seconds": 3.5}])
    assert read_processor_seconds(tmp_path) == 5.5
    write_times(tmp_path, [1.0, 1.0], [{}, {"processor_seconds": 3.5}])  # begun by an older version
    assert read_processor_seconds(tmp_path) is None
