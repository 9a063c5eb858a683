"""MobileNets for grey faces: what becomes of the colour network's weights, and which files are refused."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import h5py
import keras
from keras.src.utils import file_utils

from edge.errors import BadDataError, InputNotFoundError, UnavailableError, UsageError
from edge.modelfile import SHIPPED, SMALL, read_model_file
from trainer import backbones
from trainer.backbones import BACKBONES, build_network, find_weights, set_backbone_trainable
from trainer.presets import PRESETS
from trainer.settings import Settings

pytestmark = pytest.mark.trainer

PUBLISHED = ("mobilenet_v1", "mobilenet_v2")


def build(backbone: str = "mobilenet_v1", **options) -> keras.Model:
    kind = {"labels": 7, "size": 48, "width": 0.25, "dropout": 0.2, "stem_stride": 1, "weights": "none"}
    return build_network(backbone, **(kind | options))


def colour_network(backbone: str, width: float, size: int) -> keras.Model:
    return BACKBONES[backbone](input_shape=(size, size, 3), alpha=width, include_top=False, weights=None)


def write_no_top(network: keras.Model, path: Path) -> None:
    """The HDF5 layout that ImageNet's `no_top` files have."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.1.6"
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{number}:0".encode() for number in range(len(layer.weights))]
            group.attrs["weight_names"] = names
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name.decode()] = value


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> dict[str, tuple[keras.Model, Path]]:
    """For each backbone a colour network of 64 px with lively weights, and the file that holds them."""
    made = {}
    rng = np.random.default_rng(0)
    for backbone in PUBLISHED:
        network = colour_network(backbone, 0.25 if backbone == "mobilenet_v1" else 0.35, 64)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                gamma, beta, mean, variance = layer.get_weights()
                spread = rng.uniform(0.5, 1.5, gamma.shape)
                layer.set_weights([gamma * spread, beta + 0.1, mean + rng.normal(0, 0.05, mean.shape), variance * 0.3])
        path = tmp_path_factory.mktemp("weights") / f"{backbone}_no_top.h5"
        write_no_top(network, path)
        made[backbone] = network, path
    return made


@pytest.mark.parametrize(("backbone", "width"), [("mobilenet_v1", 0.25), ("mobilenet_v2", 0.35)])
def test_on_a_grey_face_the_grey_network_sees_what_the_colour_one_sees(pretrained, faces, backbone, width):
    colour, path = pretrained[backbone]
    grey = build(backbone, width=width, weights=str(path), size=64, stem_stride=2)
    face = faces(4, 64, 9)[0].astype(np.float32)[..., np.newaxis] / 127.5 - 1
    seen = keras.Model(grey.input, grey.get_layer("pool").output)(face)
    expected = np.asarray(colour(np.repeat(face, 3, axis=3))).mean(axis=(1, 2))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(np.asarray(seen), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("backbone", "size"), [("mobilenet_v1", 48), ("mobilenet_v2", 48), ("mobilenet_v1", 64), ("vgg", 48)]
)
def test_a_network_takes_grey_faces_and_gives_one_logit_a_label(backbone, size):
    network = build(backbone, size=size, labels=5)
    assert network.input_shape == (None, size, size, 1)
    logits = np.asarray(network(np.ones((2, size, size, 1), np.float32)))
    assert logits.shape == (2, 5)
    assert network.layers[-1].activation is keras.activations.linear


def test_a_stem_of_stride_1_leaves_3_by_3_at_48_pixels_where_the_stock_one_leaves_a_point():
    assert build().get_layer("pool").input.shape[1:3] == (3, 3)
    assert build(stem_stride=2).get_layer("pool").input.shape[1:3] == (1, 1)


def multiply_adds(network: keras.Model) -> int:
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            high, wide, channels = layer.output.shape[1:]
            reads = 1 if isinstance(layer, keras.layers.DepthwiseConv2D) else layer.input.shape[-1]
            total += high * wide * channels * reads * layer.kernel_size[0] * layer.kernel_size[1]
    return total


def test_mobilenet_v1_at_48_pixels_costs_103_million_multiply_adds():
    assert multiply_adds(build(width=1.0)) == pytest.approx(103e6, rel=0.01)


@pytest.mark.parametrize(("shipped", "most_bytes"), [(SHIPPED, 4_000_000), (SMALL, 600_000)])
def test_what_ships_keeps_to_the_size_of_its_class(shipped, most_bytes):
    provenance = read_model_file(shipped).card.content["provenance"]
    settings = Settings.complete(provenance["settings"])
    shape = {key: settings[key] for key in ("size", "width", "blocks", "stem_stride", "last_stride")}
    network = build(settings["backbone"], **shape)
    assert network.count_params() == provenance["parameters"] <= 3_500_000
    assert multiply_adds(network) <= 110e6
    assert shipped.stat().st_size <= most_bytes


def test_without_its_last_two_blocks_half_of_the_weights_and_most_of_the_sums_are_left():
    short = build(width=1.0, blocks=11)
    assert short.count_params() / build(width=1.0).count_params() == pytest.approx(0.50, abs=0.02)
    assert multiply_adds(short) == pytest.approx(89e6, rel=0.01)
    assert multiply_adds(build(width=0.5, blocks=11)) == pytest.approx(23e6, rel=0.01)
    assert short.get_layer("pool").input.shape == (None, 6, 6, 512)


@pytest.mark.parametrize(("backbone", "width"), [("mobilenet_v1", 0.25), ("mobilenet_v2", 0.35)])
def test_a_last_stride_of_1_sees_at_every_point_what_one_of_2_sees_at_every_other(pretrained, faces, backbone, width):
    options = {"width": width, "weights": str(pretrained[backbone][1])}
    halved, whole = (build(backbone, last_stride=stride, **options) for stride in (2, 1))
    face = faces(4, 48, 9)[0].astype(np.float32)[..., np.newaxis] / 127.5 - 1
    name = {"mobilenet_v1": "conv_dw_12", "mobilenet_v2": "block_13_depthwise"}[backbone]
    few, many = (np.asarray(keras.Model(each.input, each.get_layer(name).output)(face)) for each in (halved, whole))
    assert (few.shape[1:3], many.shape[1:3]) == ((3, 3), (6, 6))
    np.testing.assert_allclose(many[:, 1::2, 1::2], few, rtol=1e-3, atol=1e-5)
    assert whole.get_layer("pool").input.shape[1:3] == (6, 6)


def test_a_map_of_6_by_6_and_one_block_less_costs_as_much_as_what_ships():
    wide = build(width=1.0, blocks=12, last_stride=1)
    assert multiply_adds(wide) == pytest.approx(108e6, rel=0.01)
    assert wide.count_params() == pytest.approx(2.18e6, rel=0.01)


def test_with_the_backbone_frozen_only_the_head_learns():
    network = build()
    set_backbone_trainable(network, False)
    assert [weight.path.split("/")[0] for weight in network.trainable_weights] == ["logits", "logits"]
    set_backbone_trainable(network, True)
    assert len(network.trainable_weights) > 80


@pytest.mark.parametrize(
    ("backbone", "width", "known"),
    [("mobilenet_v1", 0.6, "0.25, 0.5, 0.75, 1 alone"), ("mobilenet_v2", 0.25, "0.35, 0.5, 0.75, 1, 1.3, 1.4 alone")],
)
def test_a_width_without_imagenet_weights_is_wrong_usage_and_the_known_ones_are_named(backbone, width, known):
    with pytest.raises(UsageError, match=f"--width {width}: .* exist for widths {known}"):
        build(backbone, width=width, weights="imagenet")


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_every_width_that_is_named_is_one_that_keras_takes(backbone, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no network")  # Keras asks for the download once it has taken the width

    monkeypatch.setattr(file_utils, "get_file", refuse)
    for width in backbones._IMAGENET_WIDTHS[backbone]:
        with pytest.raises(UnavailableError, match="cannot be downloaded"):
            build(backbone, width=width, weights="imagenet")


def test_a_vgg_keeps_3_by_3_points_and_is_a_size_for_teachers():
    teacher = build("vgg", width=0.75)
    assert teacher.get_layer("pool").input.shape == (None, 3, 3, 384)
    assert multiply_adds(teacher) == pytest.approx(265e6, rel=0.01)


@pytest.mark.parametrize("weights", ["imagenet", "vgg.h5"])
def test_a_vgg_has_no_weights_to_start_from(weights):
    with pytest.raises(UsageError, match=f"--weights {weights}: nobody publishes any for vgg; start from nothing with"):
        build("vgg", weights=weights)
    with pytest.raises(UsageError, match="nobody publishes any for vgg"):
        find_weights(weights, "vgg", 1.0)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"no\.h5: no such weights file"):
        build(weights=str(tmp_path / "no.h5"))


@pytest.mark.parametrize("options", [{"width": 0.5}, {"backbone": "mobilenet_v2", "width": 0.35}])
def test_weights_of_another_network_are_refused(pretrained, options):
    _, path = pretrained["mobilenet_v1"]
    with pytest.raises(BadDataError, match=r"mobilenet_v1_no_top\.h5: these weights do not fit mobilenet_v"):
        build(weights=str(path), **options)


@pytest.mark.parametrize("kept", [0, 5000])
def test_weights_that_are_no_hdf5_or_cut_short_are_refused(pretrained, tmp_path, kept):
    path = tmp_path / "cut.h5"
    path.write_bytes(pretrained["mobilenet_v1"][1].read_bytes()[:kept])
    with pytest.raises(BadDataError, match=r"cut\.h5: these weights do not fit"):
        build(weights=str(path))


@pytest.mark.parametrize(
    ("name", "backbone", "width"),
    [
        ("mobilenet_2_5_224_tf_no_top.h5", "mobilenet_v1", 0.25),
        ("mobilenet_v1_1.0_224_imagenet_no_top.h5", "mobilenet_v1", 1.0),
        ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5", "mobilenet_v2", 0.35),
        ("mobilenet_v2_1.0_224_imagenet_no_top.h5", "mobilenet_v2", 1.0),
    ],
)
def test_a_folder_of_weights_is_searched_for_the_file_that_fits(tmp_path, name, backbone, width):
    (tmp_path / name).touch()
    assert find_weights(str(tmp_path), backbone, width) == str(tmp_path / name)
    with pytest.raises(InputNotFoundError, match=r"no ImageNet weights of mobilenet_v\d at width 0\.75 in this folder"):
        find_weights(str(tmp_path), backbone, 0.75)


@pytest.mark.parametrize("place", ["imagenet", "none", "some/file.h5"])
def test_weights_that_are_no_folder_are_left_as_they_are(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "none"):  # these are words, whatever lies here
        (tmp_path / name).mkdir()
    assert find_weights(place, "mobilenet_v1", 1.0) == place


def test_a_caffe_network_sees_in_a_grey_face_what_it_would_have_seen_in_its_own_scale(pretrained, faces):
    colour, path = pretrained["mobilenet_v1"]
    grey = build(weights=str(path), size=64, stem_stride=2, weights_scaling="caffe")
    face = faces(2, 64, 9)[0].astype(np.float32)[..., np.newaxis]
    theirs = np.repeat(face, 3, axis=3) - np.array([103.939, 116.779, 123.68], np.float32)
    seen, expected = (
        np.asarray(keras.Model(network.input, network.get_layer("conv1_bn").output)(pixels))
        for network, pixels in ((grey, face / 127.5 - 1), (colour, theirs))
    )
    # At the border one pads with grey 127.5, the other with the mean.
    np.testing.assert_allclose(seen[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=1e-3, atol=1e-2)
    assert expected.std() > 1


def test_every_named_training_starts_from_a_network_that_can_be_built():
    for preset in PRESETS.values():
        options = preset.options
        build(options.get("backbone", "mobilenet_v1"), width=options.get("width", 1.0), size=options.get("size", 48))
