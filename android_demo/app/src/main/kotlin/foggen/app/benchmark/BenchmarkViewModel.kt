package foggen.app.benchmark

import com.google.gson.JsonObject
import foggen.FoggenException
import foggen.app.install.replaceFile
import foggen.json.compactJson
import foggen.json.jsonOf
import foggen.profile.ProfileEvent
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.launch
import java.io.IOException
import java.nio.file.Path

/** What the benchmark's screen shows. */
sealed interface BenchmarkState {
    data object Idle : BenchmarkState

    data class Running(val event: ProfileEvent) : BenchmarkState

    data class Finished(val profile: JsonObject, val file: Path) : BenchmarkState

    data class Failed(val message: String) : BenchmarkState
}

/** Measures the installed bundle; [foggen.profile.Profiler] does. */
fun interface Measuring {
    /** @throws FoggenException in the flow: there is no bundle, or it fails */
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

    /** Starts a run; while one runs, another is not begun. */
    fun run(request: BenchmarkRequest) {
        if (job?.isActive == true) return
        states.value = BenchmarkState.Running(ProfileEvent.Loading)
        job = scope.launch {
            val file = folder.resolve(request.output)
            try {
                measuring.profile(request).flowOn(blocking).collect { event ->
                    if (event is ProfileEvent.Finished) replaceFile(file, compactJson(event.profile).toByteArray())
                    states.value = shown(event, file)
                }
            } catch (error: FoggenException) {
                fail(file, error.message.orEmpty())
            } catch (error: IOException) {
                fail(file, "storage: ${error.message}")
            } catch (error: LinkageError) {
                fail(file, "onnxruntime's library is not in this build: ${error.message}")
            }
        }
    }

    /** Says why there is no profile, on the screen and beside where the profile would be. */
    fun fail(file: Path, message: String) {
        states.value = BenchmarkState.Failed(message)
        try {
            replaceFile(file.resolveSibling("${file.fileName}.error"), compactJson(jsonOf("error" to message)).toByteArray())
        } catch (_: IOException) {
            return
        }
    }

    fun cancel() {
        job?.cancel()
        states.value = BenchmarkState.Idle
    }

    private fun shown(event: ProfileEvent, file: Path): BenchmarkState =
        if (event is ProfileEvent.Finished) BenchmarkState.Finished(event.profile, file) else BenchmarkState.Running(event)
}
