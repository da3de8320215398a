import paddle


def reset() -> None:
    paddle.set_default_dtype("float32")
