"""Types of arrays that modules hand to each other."""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
