package foggen.app.screens

import java.text.NumberFormat
import java.util.Locale

/** How a number and its unit are written, `%1$s` for the number. */
class Units(val milliseconds: String, val seconds: String, val megabytes: String)

/** Writes numbers as the reader's language does. */
class Numbers(private val locale: Locale, private val units: Units) {
    /** @param share within [0, 1] */
    fun percent(share: Double): String = NumberFormat.getPercentInstance(locale).apply { maximumFractionDigits = 0 }.format(share)

    /** Milliseconds below a second, else seconds with one decimal. */
    fun duration(ms: Double): String =
        if (ms < 1_000) units.milliseconds.format(decimals(ms, if (ms < 10) 1 else 0)) else units.seconds.format(decimals(ms / 1_000, 1))

    fun megabytes(bytes: Long): String = units.megabytes.format(decimals(bytes / 1e6, if (bytes < 10_000_000) 1 else 0))

    fun decimals(value: Double, count: Int): String = NumberFormat.getNumberInstance(locale).apply {
        minimumFractionDigits = count
        maximumFractionDigits = count
    }.format(value)
}
