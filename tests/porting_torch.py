def reset() -> None:
    import torch

    torch.set_default_dtype(torch.float32)
