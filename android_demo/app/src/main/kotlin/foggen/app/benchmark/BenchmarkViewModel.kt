package foggen.app.benchmark

import com.google.gson.JsonObject
import foggen.FoggenException
import foggen.app.NoModelException
import foggen.app.Problem
import foggen.app.install.replaceFile
import foggen.app.problemOf
import foggen.json.JsonException
import foggen.json.compactJson
import foggen.json.jsonOf
import foggen.json.parseJson
import foggen.profile.ProfileEvent
import foggen.profile.mergedProfiles
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.launch
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path

/** What the benchmark's screen shows. */
sealed interface BenchmarkState {
    data object Idle : BenchmarkState

    data class Running(val event: ProfileEvent) : BenchmarkState

    data class Finished(val profile: JsonObject, val file: Path) : BenchmarkState

    data class Failed(val problem: Problem) : BenchmarkState
}

/** Measures the installed bundle; [foggen.profile.Profiler] does. */
fun interface Measuring {
    /**
     * @throws FoggenException in the flow: the bundle fails
     * @throws NoModelException in the flow: there is none
     */
    fun profile(request: BenchmarkRequest): Flow<ProfileEvent>
}

/**
 * Measures, and writes the profile.
 *
 * Beside `profile.json` a failed run leaves `profile.json.error` for scripts that wait.
 *
 * @param folder where profiles go
 */
class BenchmarkViewModel(
    private val measuring: Measuring,
    private val folder: Path,
    private val scope: CoroutineScope,
    private val blocking: CoroutineDispatcher,
) {
    private val states = MutableStateFlow<BenchmarkState>(BenchmarkState.Idle)
    private var job: Job? = null
    val state: StateFlow<BenchmarkState> = states

    /** Starts a run; while one runs or ends, another is not begun. */
    fun run(request: BenchmarkRequest) {
        if (states.value is BenchmarkState.Running) return
        states.value = BenchmarkState.Running(ProfileEvent.Loading)
        job = scope.launch {
            val file = folder.resolve(request.output)
            try {
                measuring.profile(request).map { shown(it, file, request.append) }.flowOn(blocking).collect { states.value = it }
            } catch (error: Throwable) {
                fail(file, problemOf(error) ?: throw error)
            }
        }.apply { invokeOnCompletion { if (it is CancellationException) states.value = BenchmarkState.Idle } }
    }

    /** Says why there is no profile, on the screen and beside where the profile would be. */
    fun fail(file: Path, problem: Problem) {
        try {
            replaceFile(file.resolveSibling("${file.fileName}.error"), compactJson(jsonOf("error" to problem.message)).toByteArray())
        } catch (_: IOException) {
            // The screen says it in any case.
        }
        states.value = BenchmarkState.Failed(problem)
    }

    /** Ends a run; what computes goes on to the end of its pass. */
    fun cancel() {
        job?.cancel()
    }

    private fun shown(event: ProfileEvent, file: Path, append: Boolean): BenchmarkState =
        if (event is ProfileEvent.Finished) {
            BenchmarkState.Finished(write(event.profile, file, append), file)
        } else {
            BenchmarkState.Running(event)
        }

    /** Writes a profile, its rounds after those that the file holds where it is to be appended. */
    private fun write(profile: JsonObject, file: Path, append: Boolean): JsonObject {
        val whole = if (append && Files.exists(file)) {
            val earlier = Files.newBufferedReader(file).use { parseJson(it) } as? JsonObject
            mergedProfiles(earlier ?: throw JsonException("$file: must be a profile"), profile)
        } else {
            profile
        }
        replaceFile(file, compactJson(whole).toByteArray())
        return whole
    }
}
