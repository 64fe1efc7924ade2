"""The gateway: one bundle behind the chat completions API of OpenAI."""
