"""Samplers that diffusers lacks, with the interface its pipelines expect of a scheduler.

The pipeline of diffusers runs unchanged: it asks init_noise_sigma, set_timesteps, timesteps,
scale_model_input and step, as it does of EulerDiscreteScheduler.  All use SVD's preconditioning

    c_skip = 1/(s^2+1)   c_out = -s/sqrt(s^2+1)   c_in = 1/sqrt(s^2+1)   t = 0.25 ln s
    f(x, s) = c_skip x + c_out F(c_in x, t)

and start from x = sqrt(sigma_max^2 + 1) * noise, as diffusers and AnimateLCM do.

noise is a function: noise(shape, dtype) -> the next draw of the job's generator.
"""
import math
from types import SimpleNamespace

import numpy as np
import torch

RHO = 7.0


def karras(points, sigma_min, sigma_max):
    """The grid of Karras et al. 2022, eq. 5: float64 [points], falling, without the final 0."""
    hi, lo = sigma_max ** (1 / RHO), sigma_min ** (1 / RHO)
    return (hi + np.linspace(0, 1, points) * (lo - hi)) ** RHO


def consistency_sigmas(steps, grid, sigma_min, sigma_max):
    """steps sigmas of the training grid of grid points: indices j * floor(grid / steps)."""
    return karras(grid, sigma_min, sigma_max)[np.arange(steps) * (grid // steps)].tolist()


class Scheduler:
    """What the samplers below share; a subclass says which sigmas are visited, and steps."""

    order = 1

    def __init__(self, config, noise=None, grid=100):
        self.config = config                    # of the checkpoint's EulerDiscreteScheduler
        self.noise = noise
        self.grid = grid
        self.index = 0
        self.sigmas = []                        # one per UNet evaluation, then 0
        self.timesteps = torch.zeros(0)

    @property
    def init_noise_sigma(self):
        return math.sqrt(self.config.sigma_max ** 2 + 1)

    def visit(self, sigmas):
        self.sigmas = list(sigmas) + [0.0]
        self.timesteps = torch.tensor([0.25 * math.log(s) for s in sigmas], dtype=torch.float32)
        self.index = 0

    def scale_model_input(self, sample, timestep):
        return sample / math.sqrt(self.sigmas[self.index] ** 2 + 1)

    def denoise(self, output, sample, sigma):
        """f(x, sigma) from the network's output F."""
        return (sample / (sigma ** 2 + 1)) + output * (-sigma / math.sqrt(sigma ** 2 + 1))

    def step(self, output, timestep, sample):
        self.index += 1
        return SimpleNamespace(prev_sample=self.advance(output, sample, self.index - 1))


class Consistency(Scheduler):
    """Stochastic multistep consistency sampling; steps = UNet evaluations."""

    def set_timesteps(self, steps, device=None):
        self.visit(consistency_sigmas(steps, self.grid, self.config.sigma_min,
                                      self.config.sigma_max))

    def advance(self, output, sample, i):
        x = self.denoise(output, sample, self.sigmas[i])
        if self.sigmas[i + 1] > 0:              # the last step adds nothing, and draws nothing
            x = x + self.sigmas[i + 1] * self.noise(x.shape, x.dtype)
        return x


class TimeTravel(Scheduler):
    """The Time Travel Sampler of OSV (eq. 13); two UNet evaluations per step.

    Step j of k goes from hi over mid to lo, with hi = grid_k[j], lo = grid_k[j+1] (0 after the
    last) and mid = grid_(k+1)[j+1], where grid_k is consistency_sigmas(k).  variant "literal" ends
    a step with the second network output under the coefficients of hi, "fmid" with the second
    denoised estimate.  eps0 "fresh" is drawn once at the start of every step, "initial" is the
    initial noise every time.
    """

    def __init__(self, config, noise, grid, variant, eps0):
        super().__init__(config, noise, grid)
        self.variant, self.eps0_mode = variant, eps0
        self.eps0 = self.f_hi = None

    def set_timesteps(self, steps, device=None):
        span = self.grid, self.config.sigma_min, self.config.sigma_max
        hi, mid = consistency_sigmas(steps, *span), consistency_sigmas(steps + 1, *span)
        self.visit([s for j in range(steps) for s in (hi[j], mid[j + 1])])

    def advance(self, output, sample, i):
        if i % 2 == 0:
            return self.to_mid(output, sample, i)
        return self.to_low(output, sample, i)

    def to_mid(self, output, x_hi, i):
        s_hi, s_mid = self.sigmas[i], self.sigmas[i + 1]
        if self.eps0_mode == "fresh":
            self.eps0 = self.noise(x_hi.shape, x_hi.dtype)
        elif i == 0:
            self.eps0 = x_hi / self.init_noise_sigma
        f_hi = self.denoise(output, x_hi, s_hi)
        e1 = (self.eps0 + (x_hi - f_hi) / s_hi) / 2
        return f_hi + s_mid * e1

    def to_low(self, output, x_mid, i):
        s_hi, s_mid, s_lo = self.sigmas[i - 1], self.sigmas[i], self.sigmas[i + 1]
        x = f_mid = self.denoise(output, x_mid, s_mid)
        if self.variant == "literal":
            e2 = (self.eps0 + (x_mid - f_mid) / s_mid) / 2
            x = self.denoise(output, f_mid + s_hi * e2, s_hi)
        return x + s_lo * self.eps0 if s_lo > 0 else x


class Euler(Scheduler):
    """The first-order ODE solver of EulerDiscreteScheduler, in the dtype of the sample.

    Only for the float64 runs that measure rounding: diffusers' own casts to float32.
    """

    def set_timesteps(self, steps, device=None):
        self.visit(karras(steps, self.config.sigma_min, self.config.sigma_max).tolist())

    def advance(self, output, sample, i):
        s, s_next = self.sigmas[i], self.sigmas[i + 1]
        return sample + (sample - self.denoise(output, sample, s)) / s * (s_next - s)
