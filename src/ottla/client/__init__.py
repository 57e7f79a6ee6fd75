"""Client: producer, consumer and admin for any Kafka broker, on asyncio and a World."""
