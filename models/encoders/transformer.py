"""The SATRN encoder (Lee et al. 2020, "On Recognizing Texts of Arbitrary Shapes with 2D Self-Attention").

Legend: B batch, D width, h w height and width of the feature map, S = h * w source positions, row by row.
"""

from torch import Tensor, nn

from models.attention import ENCODER_ATTENTIONS, attention_scale, check_heads
from models.choices import choose
from models.config import EncoderConfig
from models.encoders.base import Encoder
from models.errors import ModelConfigError
from models.feed_forward import ENCODER_FEED_FORWARDS
from models.initialization import INITIALIZERS
from models.memory import Memory
from models.normalization import FINAL_NORMS, RESIDUALS
from models.positions import POSITIONS

KEY = "model.encoder"


class TransformerEncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, each with a residual connection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        residual = choose(RESIDUALS, config.norm, f"{KEY}.norm")
        attention = choose(ENCODER_ATTENTIONS, config.attention, f"{KEY}.attention")
        feed_forward = choose(ENCODER_FEED_FORWARDS, config.feed_forward, f"{KEY}.feed_forward")
        scale = attention_scale(config.attention_scale, dim, config.num_heads, KEY)
        self.attention = attention(dim, config.num_heads, scale, config.drop_rate)
        self.attention_residual = residual(dim)
        self.feed_forward = feed_forward(dim, config.mlp_dim, config.mlp_drop_rate)
        self.feed_forward_residual = residual(dim)

    def forward(
        self, x: Tensor, size: tuple[int, int], mask: Tensor | None, scores: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D), map size (h, w), `mask` (B, h, w), scores of the layer before to (B, S, D) and scores."""
        keys = None if mask is None else mask.flatten(1)[:, None, None]
        attended, scores = self.attention(self.attention_residual.before(x), keys, scores)
        x = self.attention_residual.after(x, attended)
        fed = self.feed_forward(self.feed_forward_residual.before(x), size, mask)
        return self.feed_forward_residual.after(x, fed), scores


class TransformerEncoder(Encoder):
    """2D positions, then transformer layers over all positions of the feature map."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        check_heads(config.embed_dim, config.num_heads, KEY)
        if config.embed_dim % 2:
            raise ModelConfigError(f"{KEY}.embed_dim", f"{config.embed_dim} is odd; rows and columns take half each")
        position = choose(POSITIONS, config.position, f"{KEY}.position")
        self.embed_dim = self.out_dim = config.embed_dim
        self.position = position(config.embed_dim, config.position_drop_rate)
        self.layers = nn.ModuleList(TransformerEncoderLayer(config) for _ in range(config.depth))
        self.norm = choose(FINAL_NORMS, config.norm, f"{KEY}.norm")(config.embed_dim)
        self.apply(choose(INITIALIZERS, config.init, f"{KEY}.init"))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Features (B, D, h, w) and `mask` (B, h, w), True on image, to the memory."""
        size = features.shape[-2:]
        x = self.position(features, mask).flatten(2).transpose(1, 2)
        scores = None
        for layer in self.layers:
            x, scores = layer(x, size, mask, scores)
        return Memory(self.norm(x), None if mask is None else mask.flatten(1), (size[0], size[1]))
