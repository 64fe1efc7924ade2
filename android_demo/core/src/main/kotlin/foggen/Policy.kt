package foggen

/** Who may answer. */
enum class Route { AUTO, LOCAL_ONLY, CLOUD_ONLY }

/** What happens to a deferred question when the cloud cannot be had. */
enum class OnUnreachable { ANSWER_LOCALLY, QUEUE, FAIL }

/** How the level and the answer are decoded. */
enum class DecodingMode { CONSTRAINED, GREEDY, STEP }

/**
 * Who may answer, and what to do when the cloud does not.
 *
 * @property tau confidence below this defers; null takes the bundle's
 */
data class Policy(
    val route: Route = Route.AUTO,
    val tau: Double? = null,
    val onUnreachable: OnUnreachable = OnUnreachable.FAIL,
) {
    init {
        checkTau(tau)
    }
}

/**
 * How to answer one question; null takes the policy's.
 *
 * @property maxNewTokens the most tokens after the confidence, the answer prefix included
 * @property choices in constrained mode, the only letters the answer may begin with
 */
data class AskOptions(
    val route: Route? = null,
    val tau: Double? = null,
    val mode: DecodingMode = DecodingMode.CONSTRAINED,
    val maxNewTokens: Int = 256,
    val choices: List<String>? = null,
) {
    init {
        checkTau(tau)
        if (maxNewTokens < 1) throw ConfigException("maxNewTokens: must be at least 1, is $maxNewTokens")
        if (choices != null && (choices.isEmpty() || mode != DecodingMode.CONSTRAINED)) {
            throw ConfigException("choices: must be letters, with constrained decoding; are $choices with $mode")
        }
    }
}

private fun checkTau(tau: Double?) {
    if (tau != null && tau !in 0.0..1.0) throw ConfigException("tau: must be within [0, 1], is $tau")
}
