"""VisualBERT's and Pythia's files against what the originals read from them."""

import pytest

from data.features.visualbert_files import ThFile
from data.questions.imdb import imdb_records
from preprocessors.visualbert.sentences import both_images, image_names
from tests.parity.conftest import Golden


@pytest.mark.goldens("inputs_nlvr2*", system="visualbert")
def test_regions_of_two_pictures(golden: Golden) -> None:
    files = sorted(golden.path.parent.rglob("features_*.th"))
    images = {regions.image_id: regions.features for path in files for _, regions in ThFile(path)}
    for record, expected in zip(golden.json["records"], golden.json["fine_tuning"], strict=True):
        names = [name.removesuffix(".png") for name in image_names(record["identifier"])]
        if set(names) <= images.keys():
            rows, _ = both_images(*(images[name] for name in names), regions=golden.json["image_feature_cap"])
            assert rows[:, 0].tolist() == expected["first_feature_of_each_row"]


@pytest.mark.goldens("imdb*.as", system="visualbert")
def test_an_imdb_file_without_its_pickle(golden: Golden) -> None:
    path = golden.path.with_name(golden.path.name.removesuffix(".as.json") + ".npy")

    header, questions = imdb_records(path)

    assert [header, *questions] == golden.json
