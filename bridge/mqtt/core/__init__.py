"""Pure parts of the MQTT bridge: properties of a PUBLISH, end-to-end acknowledgements, packets of our own."""
