import keras


def reset() -> None:
    keras.config.set_floatx("float32")
    keras.utils.clear_session(free_memory=False)
