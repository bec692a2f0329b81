"""Run a served folder with nothing but its runtime, numpy and Pillow (for text: tokenizers).

    python predict.py image.png
    python predict.py sample.npy
    python predict.py "a sentence"

Reads `preprocessing.json` and `labels.json` beside it, and prints the answer as JSON.
"""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

SHOWN = 5


def image_inputs(settings, folder, said):
    """Return an image as it was in training: upright, gray or color, resized, normalised."""
    from PIL import Image, ImageOps

    size = (settings["image_size"], settings["image_size"])
    with Image.open(said) as opened:
        image = plain(ImageOps.exif_transpose(opened), "L" if settings["channels"] == 1 else "RGB")
    if settings["fit"] == "crop":
        image = ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)
    else:
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32).reshape(*size, -1).transpose(2, 0, 1)
    mean, deviation = (np.float32(settings[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    return {settings["name"]: ((pixels / 255 - mean) / deviation)[None].astype(np.float32)}


def plain(image, mode):
    """Return an image in gray (L) or color (RGB): 16 bits as 8, what is transparent on white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colors.size, "white"), colors)
    return image if image.mode == mode else image.convert(mode)


def text_inputs(settings, folder, said):
    """Return the tokens of a sentence."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["max_length"])
    found = tokenizer.encode(said)
    length = settings["max_length"] if settings["padding"] == "max_length" else len(found.ids)
    missing = length - len(found.ids)
    values = {
        "input_ids": [*found.ids, *[tokenizer.token_to_id(settings["pad_token"])] * missing],
        "attention_mask": [1] * len(found.ids) + [0] * missing,
        "token_type_ids": [*found.type_ids, *[0] * missing],
    }
    return {name: np.array([values[name]], dtype=np.int64) for name in settings["inputs"]}


def array_inputs(settings, folder, said):
    """Return the arrays of one sample: a .npy file for a model of one input, else a .npz by their names."""
    with open(said, "rb") as file:
        if file.read(6) != b"\x93NUMPY" and not zipfile.is_zipfile(said):
            raise ValueError("it is no .npy and no .npz file")
    given = np.load(said, allow_pickle=False)
    wanted = settings["inputs"]
    arrays = {next(iter(wanted)): given} if isinstance(given, np.ndarray) else dict(given)
    if set(arrays) != set(wanted):
        raise ValueError(f"the model takes {', '.join(wanted)}, and the file holds {', '.join(arrays)}")
    return {name: as_trained(arrays[name], wanted[name], name) for name in wanted}


def as_trained(array, told, name):
    """Return an array in the type that the model takes, as a batch of one."""
    if list(array.shape) != told["shape"]:
        raise ValueError(f"{name} has shape {list(array.shape)}, and the model takes {told['shape']}")
    if told["scale"] is not None:
        return (array.astype(np.float32) / np.float32(told["scale"]))[None]
    return array.astype({"f": np.float32, "b": np.bool_}.get(told["kind"], np.int64))[None]


def onnxruntime_output(path, session, inputs):
    """Return the output of ONNX Runtime, with the options that the file was measured with."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    for name, value in session.items():
        options.add_session_config_entry(name, value)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def openvino_output(path, session, inputs):
    """Return the output of OpenVINO, in the precision that was measured."""
    sys.modules.setdefault("openvino_telemetry", None)  # else OpenVINO reports home that it is used
    import openvino as ov

    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(inputs)[0]


def torch_output(path, session, inputs):
    """Return the output of PyTorch."""
    import torch

    with zipfile.ZipFile(path) as archive:
        is_compiled = any("/data/aotinductor/" in name for name in archive.namelist())
    with torch.no_grad():
        module = (
            torch._inductor.aoti_load_package(str(path)) if is_compiled else torch.export.load(path).module()
        )
        return module(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()


def executorch_output(path, session, inputs):
    """Return the output of ExecuTorch."""
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    names = str(program.load_method("mcomp_inputs").execute([])[0]).split(",")
    given = [torch.from_numpy(inputs[name]) for name in names]
    return program.load_method("forward").execute(given)[0].numpy()


def safetensors_output(path, session, inputs):
    """Return the output of the model that mcomp rebuilds."""
    from mcomp.measure.runtime import find_runtime

    return find_runtime("safetensors").session(path).run(inputs)


INPUTS = {"image": image_inputs, "text": text_inputs, "array": array_inputs}
OUTPUTS = {
    "onnxruntime": onnxruntime_output,
    "openvino": openvino_output,
    "torch": torch_output,
    "executorch": executorch_output,
    "safetensors": safetensors_output,
}


def predict(folder: Path, said: str) -> dict[str, object]:
    """Return the answer for one image file or text: the likeliest classes, or the numbers."""
    settings = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    inputs = INPUTS[settings["kind"]](settings, folder, said)
    run = OUTPUTS[settings["runtime"]]
    output = np.asarray(run(folder / settings["file"], settings["session"], inputs))[0]
    if not settings["chooses"] or output.ndim != 1:
        return {"output": output.tolist()}
    shares = np.exp(output - output.max())
    shares /= shares.sum()
    best = np.argsort(-shares)[:SHOWN]
    names = labels if len(labels) == len(shares) else [str(number) for number in range(len(shares))]
    return {"classes": [{"label": names[each], "probability": float(shares[each])} for each in best]}


if __name__ == "__main__":
    print(json.dumps(predict(Path(__file__).parent, sys.argv[1]), indent=1))
