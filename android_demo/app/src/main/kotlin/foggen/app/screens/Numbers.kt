package foggen.app.screens

import java.text.NumberFormat
import java.util.Locale

/** Writes numbers as the reader's language does. */
class Numbers(private val locale: Locale) {
    /** @param share within [0, 1] */
    fun percent(share: Double): String = NumberFormat.getPercentInstance(locale).apply { maximumFractionDigits = 0 }.format(share)

    /** Milliseconds below a second, else seconds with one decimal. */
    fun duration(ms: Double): String =
        if (ms < 1_000) "${decimals(ms, if (ms < 10) 1 else 0)} ms" else "${decimals(ms / 1_000, 1)} s"

    fun megabytes(bytes: Long): String = "${decimals(bytes / 1e6, if (bytes < 10_000_000) 1 else 0)} MB"

    fun decimals(value: Double, count: Int): String = NumberFormat.getNumberInstance(locale).apply {
        minimumFractionDigits = count
        maximumFractionDigits = count
    }.format(value)
}
