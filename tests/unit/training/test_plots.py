import io

import numpy as np

from listeners.training.plots import confusion_figure
from shared.categories import CATEGORIES


def test_every_class_is_named_on_the_axis_and_the_figure_renders_without_a_display():
    codes = np.array(list(CATEGORIES), np.int64)
    rng = np.random.default_rng(0)
    y_true = rng.choice(codes, 2000)
    y_pred = np.where(rng.random(2000) < 0.7, y_true, rng.choice(codes, 2000))

    figure = confusion_figure(y_true, y_pred)

    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{category.name}  {code}" for code, category in CATEGORIES.items()]
    png = io.BytesIO()
    figure.savefig(png, format="png")
    assert png.getvalue().startswith(b"\x89PNG")


def test_a_code_that_is_predicted_but_never_true_has_an_empty_row():
    image = confusion_figure(np.array([10, 10]), np.array([10, 40])).axes[0].images[0]
    assert image.get_array().tolist() == [[50, 50], [0, 0]]
