"""The two networks of the trading system in PyTorch, and the scaling of their input windows.

The layer indices of `SimpleNHiTS` and every parameter's name are those of the state dicts that such models are kept in.
"""

import torch
from torch import nn

WINDOW_EPSILON = 1e-8
"""Added to the range or the standard deviation that a window is divided by."""


class PatchTSTModel(nn.Module):
    """Patches over all features at once, a post-norm transformer encoder, the mean over patches, one logit.

    Takes scaled windows `[rows, seq_len, n_features] f32`, gives logits `[rows, 1] f32`; their sigmoid is the answer.
    """

    def __init__(
        self, seq_len: int, n_features: int, patch_len: int, d_model: int, n_heads: int, n_layers: int, ffn_dim: int
    ):
        super().__init__()
        if seq_len % patch_len:
            raise ValueError(f"patches of {patch_len} steps do not divide a window of {seq_len}")
        self.n_patches = seq_len // patch_len
        self.patch_embedding = nn.Linear(patch_len * n_features, d_model)
        self.pos_encoding = nn.Parameter(0.02 * torch.randn(1, self.n_patches, d_model))
        layer = nn.TransformerEncoderLayer(d_model, n_heads, ffn_dim, dropout=0.1, activation="relu", batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.output_proj = nn.Linear(d_model, 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Column `step · n_features + feature` of a patch is that feature at that step of the patch."""
        patches = windows.reshape(len(windows), self.n_patches, -1)
        hidden = self.transformer(self.patch_embedding(patches) + self.pos_encoding)
        return self.output_proj(hidden.mean(dim=1))


class SimpleNHiTS(nn.Module):
    """The window flattened, three linear layers with layer norm and ReLU, one logit per class.

    Takes scaled windows `[rows, seq_len, n_features] f32`, gives logits `[rows, n_classes] f32`.
    """

    def __init__(self, seq_len: int, n_features: int, hidden: tuple[int, int, int], n_classes: int):
        super().__init__()
        first, second, third = hidden
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(seq_len * n_features, first),
                    nn.LayerNorm(first),
                    nn.ReLU(),
                    nn.Dropout(0.1),
                    nn.Linear(first, second),
                    nn.LayerNorm(second),
                    nn.ReLU(),
                ),
                nn.Sequential(nn.Dropout(0.1), nn.Linear(second, third), nn.LayerNorm(third), nn.ReLU()),
            ]
        )
        self.output_layer = nn.Linear(third, n_classes)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Column `step · n_features + feature` of the flattened window is that feature at that step."""
        hidden = windows.flatten(start_dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        return self.output_layer(hidden)


def scale(windows: torch.Tensor, preprocess: dict | None) -> torch.Tensor:
    """Scales `[rows, seq_len, n_features] f32` as a config's `preprocess` says, in f32; `None` changes nothing."""
    if preprocess is None:
        return windows
    epsilon = preprocess["epsilon"]
    match preprocess["kind"]:
        case "window_min_max":
            low, high = windows.amin(dim=1, keepdim=True), windows.amax(dim=1, keepdim=True)
            return (windows - low) / (high - low + epsilon)
        case "window_std":
            variance, mean = torch.var_mean(windows, dim=1, keepdim=True, correction=0)
            return (windows - mean) / torch.sqrt(variance + epsilon)
        case "z_score":
            mean, std = (torch.tensor(preprocess[key], dtype=torch.float32) for key in ("mean", "std"))
            return (windows - mean) / (std + epsilon)
        case kind:
            raise ValueError(f"preprocess kind {kind!r} is none of window_min_max, window_std, z_score")
