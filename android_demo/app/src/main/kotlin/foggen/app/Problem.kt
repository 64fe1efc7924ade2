package foggen.app

import foggen.FoggenException
import foggen.app.install.InstallException
import foggen.json.JsonException
import java.io.IOException

/**
 * Why something was not done; screens say it in the reader's language.
 *
 * @property message the same in English, for scripts and reports
 */
sealed interface Problem {
    val message: String

    /** There is no bundle yet. */
    data object NoModel : Problem {
        override val message = "no model is installed"
    }

    /** This build brings no onnxruntime for the device's processor. */
    data class NoLibrary(val detail: String) : Problem {
        override val message = "onnxruntime's library is not in this build: $detail"
    }

    /** A file cannot be read or written. */
    data class Storage(val detail: String) : Problem {
        override val message = "storage: $detail"
    }

    /** What a library says. */
    data class Other(override val message: String) : Problem
}

class NoModelException : Exception(Problem.NoModel.message)

/** Returns what a failure is to a user; null where it is a mistake of this program, or a cancellation. */
fun problemOf(error: Throwable): Problem? = when (error) {
    is NoModelException -> Problem.NoModel
    is LinkageError -> Problem.NoLibrary(error.message.orEmpty())
    is IOException -> Problem.Storage(error.message.orEmpty())
    is FoggenException, is InstallException, is JsonException -> Problem.Other(error.message.orEmpty())
    else -> null
}
