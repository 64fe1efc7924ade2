package foggen.engine

import ai.onnxruntime.OrtEnvironment
import com.sun.jna.Function
import foggen.EngineException

private const val OFF_VARIABLE = "ORT_DISABLE_TELEMETRY"
private const val WANTED_VARIABLE = "FOGGEN_ORT_TELEMETRY"

internal object Onnxruntime {
    /** The only way to onnxruntime: its telemetry is off before its library is loaded. */
    val environment: OrtEnvironment by lazy {
        turnOffTelemetry()
        OrtEnvironment.getEnvironment()
    }
}

/**
 * Keeps onnxruntime, if it is not loaded yet, from collecting and sending anything in this process.
 *
 * `OrtEnvironment.setTelemetry(false)` comes too late for the first event. Only a variable of the
 * environment that the library itself reads is in time, and Java has no call to set one. Where
 * `FOGGEN_ORT_TELEMETRY` is 1, the environment stays as it is.
 *
 * @throws EngineException the variable is not set, and nothing here can set it
 */
fun turnOffTelemetry() {
    if (System.getenv(WANTED_VARIABLE) == "1" || System.getenv(OFF_VARIABLE) == "1") return
    try {
        setVariable(OFF_VARIABLE, "1")
    } catch (error: ReflectiveOperationException) {
        throw cannotTurnOff(error)
    } catch (error: LinkageError) {
        throw cannotTurnOff(error)
    }
}

/** JNA lends a JVM what it lacks; Android, where there is no JNA, has a call of its own. */
private fun setVariable(name: String, value: String) {
    try {
        Function.getFunction("c", "setenv").invokeInt(arrayOf(name, value, 1))
    } catch (_: NoClassDefFoundError) {
        Class.forName("android.system.Os")
            .getMethod("setenv", String::class.java, String::class.java, Boolean::class.java)
            .invoke(null, name, value, true)
    }
}

private fun cannotTurnOff(error: Throwable) = EngineException(
    "onnxruntime: its telemetry cannot be turned off from within this process; set $OFF_VARIABLE=1 in its " +
        "environment, or add net.java.dev.jna:jna to its class path",
    error,
)
